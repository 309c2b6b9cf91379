"""The door for people in a terminal: parse, call one function, print."""
