<?php
/**
 * Hands a paid post to broadcastd by HTTP, for a host that cannot open a socket: needs no extension, only allow_url_fopen.
 * broadcast_http(['content' => '…', 'phone' => '…', 'key' => 'order-17'], 'https://pay.example.com:9091/jobs', 'TOKEN').
 * Returns the reply: the job is on the daemon's disk. Otherwise throws, with code 1 when it should be called again
 * later with the same key (there will be one job), and 0 when the daemon refuses it for good.
 */
function broadcast_http(
    array $frame,
    string $address = 'http://127.0.0.1:9091/jobs',
    string $token = '',
    float $seconds = 8.0,
    array $ssl = []  // ['cafile' => 'ca.pem'] for a certificate of one's own; never turn verify_peer off
): array {
    $headers = ['Content-Type: application/json', 'Connection: close'];
    if ($token !== '') {
        $headers[] = "Authorization: Bearer $token";
    }
    $context = stream_context_create(['http' => [
        'method' => 'POST',
        'header' => $headers,
        'content' => json_encode($frame, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR),
        'timeout' => $seconds,
        'ignore_errors' => true,  // a refusal has a body, too
        'follow_location' => 0,   // nobody else gets the token
    ], 'ssl' => $ssl]);
    $reply = @file_get_contents($address, false, $context);
    if ($reply === false) {
        throw new RuntimeException("broadcastd at $address did not answer; it may have the job", 1);
    }
    $answer = json_decode($reply, true);
    if (!is_array($answer) || empty($answer['ok'])) {
        $why = ($answer['error'] ?? 'this is not broadcastd') . ': ' . ($answer['message'] ?? trim($reply));
        throw new RuntimeException("refused, $why", (int) !empty($answer['retry']));
    }
    return $answer;
}
