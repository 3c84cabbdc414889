// Package deploytest keeps the files that deploy the bridge true to one another and
// to the programs that read them: nats.conf is run, docker-compose.yml is loaded as
// Compose loads it, deploy/make-certs.sh is executed. It contains only tests.
package deploytest
