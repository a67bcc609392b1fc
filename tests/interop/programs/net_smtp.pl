# PORT MODE CA SENDER RECIPIENT: sends standard input as it is. Net::SMTP is a part of Perl.
use strict;
use warnings;
use Net::SMTP;
my ($port, $mode, $ca, $from, $to) = @ARGV;
binmode STDIN;
my $message = do { local $/; <STDIN> };
my $smtp = Net::SMTP->new(
    '127.0.0.1', Port => $port, Hello => 'client.example.org', Timeout => 30,
    SSL => $mode eq 'TLS', SSL_ca_file => $ca,
) or die "no session: $@";
if ($mode eq 'STARTTLS') { $smtp->starttls(SSL_ca_file => $ca) or die "no TLS: $@" }
$smtp->mail($from, Bits => '8') && $smtp->to($to) && $smtp->data($message) or die $smtp->message;
$smtp->quit;
