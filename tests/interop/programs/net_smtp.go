// PORT MODE CA SENDER RECIPIENT: sends standard input as it is. net/smtp is a part of Go.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/smtp"
	"os"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	port, mode, ca, from, to := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	pem, err := os.ReadFile(ca)
	must(err)
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: trusted, ServerName: "localhost"}
	address := "127.0.0.1:" + port
	var client *smtp.Client
	if mode == "TLS" {
		connection, err := tls.Dial("tcp", address, config)
		must(err)
		client, err = smtp.NewClient(connection, "localhost")
		must(err)
	} else {
		client, err = smtp.Dial(address)
		must(err)
	}
	must(client.Hello("client.example.org"))
	if mode == "STARTTLS" {
		must(client.StartTLS(config))
	}
	must(client.Mail(from))
	must(client.Rcpt(to))
	body, err := client.Data()
	must(err)
	_, err = io.Copy(body, os.Stdin)
	must(err)
	must(body.Close())
	must(client.Quit())
}
