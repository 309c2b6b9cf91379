# One line for each habit. `make test` works from a clean clone: it sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin
LINES_MAX := 450

# What the frozen questions about documents were drawn with (docs/decisions/0016): the same packages, the same pictures.
FONTS := fonts-dejavu-core fonts-dejavu-extra fonts-liberation2 fonts-noto-core fonts-noto-mono fonts-lato fonts-inter \
	fonts-courier-prime fonts-inconsolata fonts-hack fonts-jetbrains-mono fonts-crosextra-carlito fonts-crosextra-caladea \
	fonts-cabin fonts-cantarell fonts-karla fonts-dosis fonts-league-spartan fonts-comfortaa \
	fonts-comic-neue fonts-manrope fonts-anonymous-pro fonts-ebgaramond-extra fonts-clear-sans fonts-go fonts-b612 \
	fonts-3270 fonts-open-sans fonts-roboto-unhinted fonts-firacode fonts-vollkorn fonts-quicksand

.PHONY: setup oracles fonts format check test golden bench docs

setup: .venv/ready
.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv && $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[train,dev]' && touch $@

# What the tests compare with, and the package never imports. Without dependencies, so that torch stays as it is.
oracles: .venv/oracles
.venv/oracles: .venv/ready
	$(BIN)/python -m pip install -q --disable-pip-version-check 'transformers>=5,<6' onnx onnxscript onnxruntime MNN webdataset && $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps timm torchvision==0.28.0 && touch $@

fonts:
	apt-get update -qq && apt-get install -y -qq --no-install-recommends $(FONTS)

format: setup
	$(BIN)/ruff check -q --fix src tests; $(BIN)/ruff format -q src tests

check: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	@find src -name '*.py' -exec awk 'FNR == 1 {why = 0} /Longer than $(LINES_MAX) lines because/ {why = 1} FNR == $(LINES_MAX) + 1 && !why {print FILENAME ": past $(LINES_MAX) lines without a reason"; bad = 1} END {exit bad}' {} +

test: setup
	$(BIN)/python -m pytest -q

# Everything that is compared with other implementations or with stored reference material, slow tests included.
golden: oracles
	$(BIN)/python -m pytest -q -rs -m '(golden or slow) and not gpu and not network'

# One question with its timings: image, encoder, prefill and decoding apart.
bench: setup
	$(BIN)/fastvlm ask examples/receipt.png "What is the total?" --timings

# The documents are plain Markdown: every link must lead somewhere and every command named must exist.
docs: setup
	$(BIN)/python -m pytest -q tests/test_documents.py
