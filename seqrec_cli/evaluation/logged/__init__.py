"""Lists that another system chose to show: position bias, and what an order would have earned."""
