//go:build tools

// Package release names the two programs, so that `go mod tidy` keeps what it needs.
package release

import (
	_ "github.com/google/go-containerregistry/cmd/crane"
	_ "github.com/sigstore/cosign/v3/cmd/cosign"
)
