"""The commands, one module each: parse, check, call one function."""
