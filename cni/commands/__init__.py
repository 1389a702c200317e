"""One module per command of the specification, over an injected Host."""
