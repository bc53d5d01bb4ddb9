"""What attention costs: time, memory, multiply-adds."""
