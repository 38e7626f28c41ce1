"""The splits that judge: formats, transforms, the decoded cache, slices and parts."""
