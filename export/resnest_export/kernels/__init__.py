"""The two GPU kernels, written once in the Triton language, and what every user of them has to know.

`contracts` says what each operator takes and gives, `launching` with which grid and scalars its kernel is started,
`compiling` makes PTX of it without a GPU. `nms` and `roi_align` hold the kernels themselves; only they need Triton.
"""
