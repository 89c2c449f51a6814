"""On a CPU, be as strict about PyTorch's tensors as a GPU is: they are no arrays.

A GPU's tensors have to be fetched, which ``keras.ops.convert_to_numpy`` does. A CPU's can be given
to NumPy as they are. So code that forgets to fetch them works on a CPU and fails on a GPU. With
this it fails on both. ``make book`` starts every kernel with it, by PYTHONSTARTUP, and the tests
run it, too.
"""


def _be_strict() -> None:
    """In a function, so that a chapter's kernel has no names that the chapter did not make."""
    import functools
    import sys

    import torch

    home = torch.__path__[0]

    def is_fetched(frame) -> bool:
        """Whether it is Keras that fetches the tensor, or PyTorch that prints it, say."""
        code = frame.f_code
        return "convert_to_numpy" in code.co_qualname or code.co_filename.startswith(home)

    def strict(method):
        @functools.wraps(method)
        def call(self, *args, **kwargs):
            if not is_fetched(sys._getframe(1)):
                raise TypeError("tensor: a GPU's is no array; use keras.ops.convert_to_numpy.")
            return method(self, *args, **kwargs)

        return call

    for name in ("__array__", "numpy"):
        method = getattr(torch.Tensor, name)
        if not hasattr(method, "__wrapped__"):
            setattr(torch.Tensor, name, strict(method))


_be_strict()
del _be_strict
