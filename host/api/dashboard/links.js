// Addresses of views: `link("operators", {target})` -> "#/operators?target=...". What is absent is left out.

export function link(name, query = {}) {
  const told = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(told).toString();
  return `#/${name}${text ? `?${text}` : ""}`;
}
