"""HTTP in and out (floor 5): who asks, what they may see, and in which shape they are answered."""
