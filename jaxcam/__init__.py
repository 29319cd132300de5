"""What did a convolutional network learn? Explanations as function transformations of any JAX model."""
