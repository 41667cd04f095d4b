"""Records to numbers to draw, and those to pictures, pages and text."""
