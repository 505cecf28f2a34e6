/** The arm of a request, of a unit that keeps one too. */

import type { Bundle, Context } from "./bundle.js";
import { features, first, holdout, isHeldOut, keptAmong, type Route, route, type Uniform } from "./choosing.js";
import type { KeptArm, State } from "./state.js";

/** `kept`: of a unit that keeps an arm, how that was drawn. */
export interface Assigned {
  route: Route;
  kept: KeptArm | null;
}

/** Null where no arm is left. */
export async function assigned(
  bundle: Bundle,
  units: Pick<State, "arm">,
  unit: string | null,
  context: Context | null,
  excluded: ReadonlySet<number>,
  uniform: Uniform,
): Promise<Assigned | null> {
  const drawnAnew = (of: string | null, kept: KeptArm | null): Assigned | null => {
    const found = route(bundle, of, context, excluded, uniform);
    return found === null ? null : { route: found, kept };
  };
  // A wrong one is told, also of a unit that is held out or known: the platform would not take it.
  if (bundle.context.length > 0) features(bundle.context, context);
  if (!bundle.sticky || unit === null) return drawnAnew(unit, null);
  const heldOut = holdout(bundle, unit, excluded, uniform);
  if (heldOut !== null) return { route: heldOut, kept: null };
  if (isHeldOut(bundle, unit, uniform)) return drawnAnew(null, null); // its control is excluded: it keeps nothing
  const places = new Map(bundle.arms.flatMap((arm, i) => (arm.enabled ? [[arm.name, i] as const] : [])));
  const kept = await units.arm(
    bundle.experiment_id,
    unit,
    ({ arm }) => places.has(arm),
    () => {
      const { position, propensities } = first(bundle, unit, context);
      return { arm: bundle.arms[position]!.name, propensities, receipt: bundle.receipt, context };
    },
  );
  const own: Route = { position: places.get(kept.arm)!, propensities: kept.propensities, holdout: false };
  if (excluded.size === 0) return { route: own, kept };
  const among = keptAmong(bundle, unit, own, excluded);
  return among === null ? drawnAnew(null, kept) : { route: among, kept };
}
