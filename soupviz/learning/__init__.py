"""What needs gradients or activations: learned coefficients, Fisher, RegMean, distillation."""
