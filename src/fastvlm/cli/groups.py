"""Groups of commands."""

from __future__ import annotations

import click


class SuggestingGroup(click.Group):
    """A group that answers a name that it does not know with the known one that is most like it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant. Raises UsageError for an unknown name."""
        name, known = args[0], self.list_commands(ctx)
        if not (name in known or name.startswith("-") or ctx.resilient_parsing):
            from difflib import get_close_matches  # which no command that is known should wait for

            alike = get_close_matches(name, known, n=1)
            ctx.fail(f"No such command '{name}'." + (f" Did you mean '{alike[0]}'?" if alike else ""))
        return super().resolve_command(ctx, args)
