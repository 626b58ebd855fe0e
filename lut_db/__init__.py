"""What was measured: devices, targets, operators, raw measurements, and the look-up tables made of them."""
