//go:build tools

// Package krew names the two programs, so that `go mod tidy` keeps what it needs.
package krew

import (
	_ "sigs.k8s.io/krew/cmd/krew"
	_ "sigs.k8s.io/krew/cmd/validate-krew-manifest"
)
