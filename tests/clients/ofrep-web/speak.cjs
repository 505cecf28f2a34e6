// @openfeature/web-sdk with its OFREP provider, as a page has it. Prints what it heard.
const { OpenFeature } = require("@openfeature/web-sdk");
const { OFREPWebProvider } = require("@openfeature/ofrep-web-provider");

const given = JSON.parse(process.argv[process.argv.length - 1]);
const statuses = [];
const fetched = globalThis.fetch;
globalThis.fetch = async (request, options) => {
  const response = await fetched(request, options);
  statuses.push([response.status, request.headers.get("If-None-Match"), response.headers.get("ETag")]);
  return response;
};

async function main() {
  const provider = new OFREPWebProvider({
    baseUrl: `http://${given.address}`,
    headers: [["X-API-Key", given.key]],
    pollInterval: 0,
    cacheMode: "disabled",
  });
  await OpenFeature.setContext({ targetingKey: "user-1", country: "KR" });
  await OpenFeature.setProviderAndWait(provider);
  const client = OpenFeature.getClient();
  const heard = {
    pages: client.getObjectDetails("pages", {}),
    plain: client.getStringDetails("plain", "default"),
    missing: client.getStringDetails("nowhere", "default"),
  };
  await provider.onContextChange({}, { targetingKey: "user-1", country: "KR" });
  await OpenFeature.setContext({ targetingKey: "user-1", country: "US" });
  heard.other = client.getObjectDetails("pages", {});
  heard.statuses = statuses;
  await OpenFeature.close();
  console.log(JSON.stringify(heard));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
