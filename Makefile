# Every target is `python -m fliot_lab TARGET`, which also works where there is no make. It makes .venv itself, once.
PYTHON ?= python3
TARGETS := all lab test test-slow lint data notebooks bench reference clean

.DEFAULT_GOAL := help
.PHONY: help $(TARGETS)

help:
	@$(PYTHON) -m fliot_lab

$(TARGETS):
	@$(PYTHON) -m fliot_lab $@ $(MAKEOVERRIDES)
