"""One joint over an action chunk, many factorizations: train, measure, roll out.

Importing this package is cheap: nothing heavy is loaded until a subpackage is.
"""

__version__ = "0.1.0"
