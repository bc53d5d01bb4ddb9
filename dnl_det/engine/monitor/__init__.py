"""What TensorBoard shows of the attention while a model trains, and how little time it may take."""
