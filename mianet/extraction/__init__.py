"""Features of images, and vectors of class names, from pretrained networks."""
