"""The decoder in C++, for processors whose vectors multiply bfloat16 and eight bits: prompts and words from one copy of
the weights, packed in the order in which they are read. See docs/decisions/0034."""
