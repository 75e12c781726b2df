# Bareboat: build, run, test. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.DEFAULT_GOAL := help

# Under sudo, PATH often leaves Go out.
GO ?= $(or $(shell command -v go),/usr/local/go/bin/go)
export GOFLAGS := -buildvcs=false
export GOTOOLCHAIN := local

MODULES := proto client daemon apiserver scheduler controllermanager kubelet proxy dns kctl integration
DAEMONS := apiserver scheduler controllermanager kubelet proxy dns
PACKAGES := $(foreach m,$(MODULES),./$(m)/...)
BIN := build/bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo v0.1.0-dev)

# SQLite and libcontainer's way into namespaces are C; the rest is Go. Binaries that need C are linked statically, so that
# they run on any host of the architecture.
STATIC := -tags "seccomp netgo osusergo sqlite_omit_load_extension" -ldflags "-s -w -linkmode external -extldflags -static"
PURE := -ldflags "-s -w -X bareboat.dev/kctl/cli.Version=$(VERSION)"

# Debian packages: to build, to run, and what the tests run against.
BUILD_PACKAGES := gcc libc6-dev libseccomp-dev
RUN_PACKAGES := iptables
TEST_PACKAGES := busybox-static conntrack curl dbus-daemon etcd-server iproute2 nftables procps runc systemd systemd-container

# What the virtual machine of `make test-vm` is made with; its kernel and files are downloaded, not installed.
VM_PACKAGES := qemu-system-x86 e2fsprogs kmod

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: run-deps build images ## Build everything, start a cluster on this machine and run the example (as root)
	$(BIN)/kctl up
	deploy/examples/guestbook/run

.PHONY: down
down: ## Stop the cluster and leave the host as it was (as root)
	$(BIN)/kctl down

.PHONY: build
build: build-deps ## Build every daemon and kctl into build/bin
	@mkdir -p $(BIN) build/systemd
	CGO_ENABLED=1 $(GO) build $(STATIC) -o $(BIN)/ ./apiserver/cmd/apiserver ./kubelet/cmd/podshim
	CGO_ENABLED=0 $(GO) build $(PURE) -o $(BIN)/ $(foreach d,$(filter-out apiserver,$(DAEMONS)),./$(d)/cmd/$(d)) ./kctl/cmd/kctl
	@cp deploy/systemd/*.service build/systemd/

.PHONY: images
images: ## Build the example's images into OCI archives under build/images
	@mkdir -p build/images/bin
	cd deploy/examples/guestbook/images && GOWORK=off CGO_ENABLED=0 $(GO) build -ldflags "-s -w" -o $(CURDIR)/build/images/bin/ ./...
	$(GO) run ./integration/cmd/mkimage -out build/images deploy/examples/guestbook/images/*.yaml

.PHONY: install
install: build ## Install kctl, the daemons and their units under /usr/local (as root)
	install -D -m 0755 $(BIN)/kctl /usr/local/bin/kctl
	install -d /usr/local/lib/bareboat/bin /usr/local/lib/bareboat/systemd
	install -m 0755 $(addprefix $(BIN)/,$(DAEMONS) podshim) /usr/local/lib/bareboat/bin/
	install -m 0644 deploy/systemd/*.service /usr/local/lib/bareboat/systemd/

.PHONY: test
test: test-deps verify build images ## Run every test, as `make verify` first (as root)
	$(GO) test -timeout 20m $(filter-out ./integration/...,$(PACKAGES))
	$(GO) test -timeout 20m -count=1 -p 1 ./integration/...

.PHONY: test-vm
test-vm: test-deps build images ## Run the kubelet's tests and a cluster in a virtual machine with cgroup v2 alone (as root)
	$(call require,$(VM_PACKAGES))
	$(GO) test -tags vm -count=1 -timeout 40m ./integration/vm/

.PHONY: test-images
test-images: test-deps build ## Run servers and databases of Debian's packages on a cluster (as root; downloads some 300 MB once)
	$(GO) test -tags realimages -count=1 -timeout 30m ./integration/realimages/

.PHONY: verify
verify: build-deps ## Check formatting, generated code, import rules and that each module builds alone
	@test -z "$$(gofmt -l $(MODULES) deploy)" || { echo "not formatted; run make fix:"; gofmt -l $(MODULES) deploy; exit 1; }
	$(GO) vet $(PACKAGES)
	@for m in $(MODULES); do (cd $$m && GOWORK=off $(GO) build ./... && GOWORK=off $(GO) mod verify >/dev/null) || { echo "module $$m does not build alone"; exit 1; }; done
	$(GO) run ./integration/cmd/protogen -dir proto -check
	$(GO) test -count=1 ./integration/house/...

.PHONY: fix
fix: ## Format, tidy modules and generate code anew
	gofmt -w $(MODULES) deploy
	$(GO) run ./integration/cmd/protogen -dir proto
	@for m in $(MODULES); do (cd $$m && GOWORK=off $(GO) mod tidy); done
	$(GO) work sync

.PHONY: lint
lint: ## Run golangci-lint and buf, which must be on PATH
	golangci-lint run $(PACKAGES)
	cd proto && buf lint

.PHONY: bench
bench: test-deps build ## Measure against the yardsticks and write docs/benchmarks.md (as root)
	$(GO) run ./integration/cmd/bench -out docs/benchmarks.md

.PHONY: clean
clean: ## Remove what was built
	rm -rf build

# Packages are installed only where they are missing, and only by root; anyone else is told the command.
define require
@missing=""; for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q "install ok installed" || missing="$$missing $$p"; done; \
if [ -n "$$missing" ]; then \
  if [ "$$(id -u)" != 0 ]; then echo "missing Debian packages; install them with: sudo apt-get install$$missing" >&2; exit 1; fi; \
  echo "Installing$$missing"; export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

.PHONY: build-deps run-deps test-deps
build-deps:
	$(call require,$(BUILD_PACKAGES))
run-deps: build-deps
	$(call require,$(RUN_PACKAGES))
test-deps: run-deps
	@test "$$(id -u)" = 0 || { echo "the tests make namespaces, mounts and containers; run them with: sudo make test" >&2; exit 1; }
	$(call require,$(TEST_PACKAGES))
