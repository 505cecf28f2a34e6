"""What a person is told whose page is not there, may not be opened or went wrong: a page of the
admin. Whatever is no page of it is told as a problem document."""

from collections.abc import Sequence

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from noregret.rest import problems
from serving.problems import Problem


def handle_400(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_page(request):
        return problems.handle_400(request, exception)
    problem = problems.refusal(exception)
    # Refused at the gate, before anybody knows who asks; or with the database's help no more.
    if not hasattr(request, "user") or problem.status >= 500:
        return _alone(request, problem)
    told = f"{problem.detail[:1].upper()}{problem.detail[1:]}."
    return _page(
        request,
        problem.status,
        problem.title,
        told,
        [("Show all", request.path), ("To the overview", reverse("admin:index"))],
    )


def handle_403(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_page(request):
        return problems.handle_403(request, exception)
    return _page(request, 403, "You may not open this", "Your role does not allow it. Ask an administrator for it.")


def handle_404(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_page(request):
        return problems.handle_404(request, exception)
    return _page(request, 404, "There is no such page", "The address is mistyped, or what stood here was removed.")


def handle_500(request: HttpRequest) -> HttpResponse:
    """Called while the error is handled."""
    if not _is_page(request):
        return problems.handle_500(request)
    return _alone(request, problems.unforeseen())


def _alone(request: HttpRequest, problem: Problem) -> HttpResponse:
    """A page without the admin's frame: what draws that may be what went wrong."""
    answer = render(request, "noregret/went_wrong.html", {"problem": problem}, status=problem.status)
    for name, value in problem.headers.items():
        answer[name] = value
    return answer


def _page(
    request: HttpRequest, status: int, title: str, told: str, links: Sequence[tuple[str, str]] = ()
) -> HttpResponse:
    context = admin.site.each_context(request) | {"title": title, "told": told, "links": links}
    return render(request, "noregret/refused.html", context, status=status)


def _is_page(request: HttpRequest) -> bool:
    """Did a browser ask for a page of the admin? Its scripts ask for anything at all."""
    return request.path.startswith(reverse("admin:index")) and "text/html" in request.headers.get("Accept", "")
