<?php
// PORT MODE CA SENDER RECIPIENT: sends standard input as it is.
error_reporting(E_ERROR);
require 'Net/SMTP.php';
[, $port, $mode, $ca, $from, $to] = $argv;

function must($result) {
    if (PEAR::isError($result)) {
        fwrite(STDERR, $result->getMessage() . "\n");
        exit(1);
    }
}

$tls = ['ssl' => ['cafile' => $ca, 'verify_peer' => true, 'verify_peer_name' => true, 'peer_name' => 'localhost']];
$host = $mode === 'TLS' ? 'ssl://localhost' : 'localhost';
$smtp = new Net_SMTP($host, (int) $port, 'client.example.org', true, 30, $tls);
must($smtp->connect(30));
if ($mode === 'STARTTLS') {
    must($smtp->starttls());
}
must($smtp->mailFrom($from, 'BODY=8BITMIME'));
must($smtp->rcptTo($to));
must($smtp->data(file_get_contents('php://stdin')));
must($smtp->disconnect());
