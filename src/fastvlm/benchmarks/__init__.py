"""How fast it is: time to first token and decoding, beside other engines and beside what the machine could do."""
