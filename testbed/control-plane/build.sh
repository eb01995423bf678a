#!/usr/bin/env bash
# Builds etcd, kube-apiserver, kube-scheduler, kube-controller-manager, kubectl and kwok from the
# two Go modules beside this file, once per version of their lock files, into a cache outside the
# work tree. Prints the directory that holds the binaries on standard output, and nothing else.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${KORDER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/korder}
key=$(cat "$here"/{kubernetes,kwok}/go.{mod,sum} "$here/build.sh" | sha256sum | cut -c1-16)
bin="$root/control-plane-$key"
[ -x "$bin/kwok" ] && { echo "$bin"; exit 0; }

command -v go >/dev/null || { echo "control-plane: Go 1.26 or newer is needed to build the control plane: https://go.dev/doc/install" >&2; exit 1; }
mkdir -p "$root"
exec 9>"$root/control-plane.lock"
flock 9 # several callers may start at once: one builds, the others find it built
[ -x "$bin/kwok" ] && { echo "$bin"; exit 0; }

tmp=$(mktemp -d "$root/building-XXXXXX")
trap 'rm -rf "$tmp"' EXIT
version=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' "$here/kubernetes/go.mod")
stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=$(cut -c2- <<<"$version" | cut -d. -f1) -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")"
started=$SECONDS
build() { # module, ldflags, packages...
    local module=$1 flags=$2
    shift 2
    (cd "$here/$module" && GOFLAGS='-buildvcs=false -mod=readonly' CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$tmp/" "$@") >&2
}
echo "control-plane: building Kubernetes $version, etcd and kwok; about 10 minutes on 2 cores, once" >&2
build kubernetes "-s -w $stamp" k8s.io/kubernetes/cmd/{kube-apiserver,kube-scheduler,kube-controller-manager,kubectl}
build kubernetes "-s -w" go.etcd.io/etcd/server/v3
mv "$tmp/server" "$tmp/etcd" 2>/dev/null || mv "$tmp/v3" "$tmp/etcd"
build kwok "-s -w" sigs.k8s.io/kwok/cmd/kwok
mv "$tmp" "$bin"
trap - EXIT
echo "control-plane: built in $((SECONDS - started)) s: $(ls "$bin" | tr '\n' ' ')" >&2
echo "$bin"
