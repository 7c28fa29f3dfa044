"""The two GPU kernels in the Triton language, with their contracts, launch parameters and compilation.

`contracts` defines each operator's inputs, outputs and attributes, `launching` the grid and scalars of a launch, and
`compiling` compiles a kernel to PTX without a GPU. `nms` and `roi_align` contain the kernels; only these two modules
import the package `triton`.
"""
