"""Features of images, and of classes' names, by networks that others trained."""
