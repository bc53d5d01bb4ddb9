"""Recording the attention of every block in a forward pass, and where its positions lie."""
