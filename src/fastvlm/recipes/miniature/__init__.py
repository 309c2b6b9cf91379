"""The paper's comparisons in miniature: small encoders, one small decoder, one task, the same cards and steps."""
