// htmx would write a style of its own into each page, and evaluate expressions: pages allow neither.
"use strict";
htmx.config.includeIndicatorStyles = false;
htmx.config.allowEval = false;
