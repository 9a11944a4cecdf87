"""The networks: the paper's and the lite one that ships."""
