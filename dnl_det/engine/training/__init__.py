"""The training: the trainer, its steps, its length, how it stops and how it goes on."""
