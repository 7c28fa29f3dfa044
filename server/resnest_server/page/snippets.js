// The page's request as a curl command and as Python code.

/** Return the curl command that sends the page's request. */
export function curl({ address, path, file, type, withKey }) {
  return [
    `curl --data-binary ${quoted(`@${file}`)}`,
    `-H ${quoted(`Content-Type: ${type}`)}`,
    ...(withKey ? [`-H "Authorization: Bearer $API_KEY"`] : []),
    quoted(new URL(path, address).href),
  ].join(" \\\n  ");
}

/** Return the Python code that sends the page's request. */
export function python({ address, path, file, type, withKey }) {
  return [
    ...(withKey ? ["import os", ""] : []),
    "import httpx",
    "",
    `with open(${JSON.stringify(file)}, "rb") as image:`,
    "    answer = httpx.post(",
    `        ${JSON.stringify(new URL(path, address).href)},`,
    "        content=image.read(),",
    withKey
      ? `        headers={"Content-Type": ${JSON.stringify(type)}, "Authorization": f"Bearer {os.environ['API_KEY']}"},`
      : `        headers={"Content-Type": ${JSON.stringify(type)}},`,
    "        timeout=60,",
    "    )",
    `for found in answer.raise_for_status().json()["detections"]:`,
    `    print(found["class"], found["score"], found["box"])`,
  ].join("\n");
}

/** Quote for a POSIX shell. */
function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
