//go:build tools

// Package alertmanager names the program, so that `go mod tidy` keeps what it needs.
package alertmanager

import _ "github.com/prometheus/alertmanager/cmd/alertmanager"
