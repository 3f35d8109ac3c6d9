"""The little world the Spark models learn: one module per kind of text."""
