"""What Keras on TensorFlow needs: tensors as the core calculates with them, plans as data, the audit, the losses."""
