// What a browser says of reports: accessibility by axe-core, console errors, sideways scrolling, at both widths and in both themes.
// Once, in a folder of its own: npm install axe-core puppeteer-core; there, with Chromium installed:
// node .../bench/accessibility.mjs REPORT.html ... [--pictures FOLDER]; the exit code is 1 where anything was found.
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const need = createRequire(join(process.cwd(), "package.json"));
const axe = need("axe-core");
const puppeteer = need("puppeteer-core");

const words = process.argv.slice(2);
const at = words.indexOf("--pictures");
const pictures = at < 0 ? null : resolve(words.splice(at, 2)[1]);
if (pictures) mkdirSync(pictures, { recursive: true });
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
let found = 0;

for (const file of words) {
  for (const width of [1280, 375]) {
    for (const theme of ["light", "dark"]) {
      const page = await browser.newPage();
      const told = [];
      page.on("console", (message) => message.type() === "error" && told.push(message.text()));
      page.on("pageerror", (error) => told.push(String(error)));
      page.on("dialog", (dialog) => told.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
      page.on("request", (request) => /^(file|data):/.test(request.url()) || told.push(`asked for ${request.url()}`));
      await page.setViewport({ width, height: 900, isMobile: width < 600, hasTouch: width < 600 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
      await page.goto(pathToFileURL(resolve(file)).href, { waitUntil: "load" });
      if (pictures) {
        await page.screenshot({ path: join(pictures, `${basename(file, ".html")}-${width}-${theme}.png`), fullPage: true });
      }
      await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
      const sideways = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (sideways > 0) told.push(`wider than the window by ${sideways} pixels`);
      await page.evaluate(axe.source);
      const { violations } = await page.evaluate(() => window.axe.run());
      for (const { impact, id, help, nodes } of violations) {
        told.push(`axe, ${impact}: ${id}: ${help} (${nodes.length}; ${nodes[0].target})`);
      }
      console.log(`${basename(file)} ${width} ${theme}: ${told.length ? "" : "nothing found"}`);
      told.forEach((line) => console.log(`  ${line}`));
      found += told.length;
      await page.close();
    }
  }
}
await browser.close();
process.exit(found ? 1 : 0);
