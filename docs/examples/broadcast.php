<?php
/**
 * Hands a paid post to broadcastd: broadcast(['content' => '…', 'phone' => '…', 'key' => 'order-17']). UTF-8 only.
 * Returns the reply: the job is on the daemon's disk. Otherwise throws, with code 1 when it should be called again
 * later with the same key (there will be one job), and 0 when the daemon refuses it for good.
 * With TLS: 'tls://HOST:9090', and in $tls PHP's context options: ['cafile' => 'ca.pem', 'local_cert' => 'shop.pem'].
 */
function broadcast(array $frame, string $address = 'tcp://127.0.0.1:9090', float $seconds = 2.0, array $tls = []): array
{
    $until = microtime(true) + $seconds;
    $line = json_encode($frame, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR) . "\n";
    $context = stream_context_create(['ssl' => $tls]);
    if (!$socket = @stream_socket_client($address, $no, $why, $seconds, STREAM_CLIENT_CONNECT, $context)) {
        $why = $why ?: error_get_last()['message'] ?? 'TLS failed';
        throw new RuntimeException("broadcastd cannot be reached at $address: $why", 1);
    }
    @fwrite($socket, $line);
    for ($reply = ''; substr($reply, -1) !== "\n"; $reply .= fread($socket, 8192)) {
        if (($left = $until - microtime(true)) <= 0 || feof($socket)) {
            throw new RuntimeException("broadcastd at $address did not answer; it may have the job", 1);
        }
        stream_set_timeout($socket, (int) $left, (int) (fmod($left, 1) * 1000000));
    }
    $answer = json_decode($reply, true);
    if (!is_array($answer) || empty($answer['ok'])) {
        $why = ($answer['error'] ?? 'this is not broadcastd') . ': ' . ($answer['message'] ?? trim($reply));
        throw new RuntimeException("refused, $why", (int) !empty($answer['retry']));
    }
    return $answer;
}
