"""Landmarks for those who go through a page by its parts."""

from django import template
from django.utils.safestring import SafeString, mark_safe

register = template.Library()
_CONTENT = '<div id="content" '


@register.filter
def with_main(frame: SafeString) -> SafeString:
    """The theme's frame, whose content is no landmark, with its content as the page's main part."""
    return mark_safe(frame.replace(_CONTENT, f'{_CONTENT}role="main" ', 1))  # noqa: S308 (it was safe before)
