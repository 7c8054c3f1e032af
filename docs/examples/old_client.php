<?php
/**
 * What the old client does, kept to show that it goes on working: bare JSON without a line end, `flag` as a string,
 * closed without reading. It cannot know whether the post was taken: use broadcast.php instead.
 *
 *     php old_client.php CONTENT FLAG PHONE [HOST [PORT]]
 */
[, $content, $flag, $phone] = $argv;
$socket = fsockopen($argv[4] ?? '127.0.0.1', (int) ($argv[5] ?? 9090), $number, $why, 2);
if (!$socket) {
    exit("$why\n");
}
fwrite($socket, json_encode(['content' => $content, 'flag' => $flag, 'phone' => $phone]));
fclose($socket);
