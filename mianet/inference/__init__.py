"""What a trained model is used for: prediction, new classes, retrieval."""
