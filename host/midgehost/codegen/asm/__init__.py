"""Assemblers, one file an instruction set. Method names are the manuals' mnemonics in lower case."""
