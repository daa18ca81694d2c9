# `make help` lists the targets. Each calls one script, which says first what it will do.
.DEFAULT_GOAL := help
.PHONY: help engine image demo test test-all lint bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

engine: ## make sure that a container engine answers (installs and starts one as root on Debian)
	@scripts/engine.sh

image: engine ## make sure that the images exist
	@scripts/images.sh

demo: image ## build agent-run and run five real tasks on a clone of this repository
	@scripts/demo.sh

test: image ## run all three rings of tests: pure, loop, Docker
	@scripts/test.sh

test-all: engine ## run the slow tests as well
	@scripts/images.sh --all
	@scripts/test.sh --all

lint: ## formatting, clippy, documentation, shell scripts, dependencies
	@scripts/lint.sh

bench: image ## measure beside shell loops and bare docker and git, write docs/benchmarks.md
	@scripts/bench.sh
