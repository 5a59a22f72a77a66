"""Which guide is in each cell."""

from ptg.guides.assignment import GuideAssignment

__all__ = ["GuideAssignment"]
