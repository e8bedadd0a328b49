"""The module.   


# With a line that looks like a comment, and blanks at its ends.   
"""


class A:
    """The class."""

    def f(self):
        '''The method.
        # no comment
        '''
