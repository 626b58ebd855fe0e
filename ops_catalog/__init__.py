"""What can be measured: operators, their shapes and arithmetic, and their model files. Knows no devices."""
