"""Files of tensors, opened without running or believing anything of them: safetensors, and those of `torch.save`."""
