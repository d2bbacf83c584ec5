/** Where the clouds' regions stand, to a degree or so: good enough for a map of the world.
 * `fleet.regions[].latitude` and `longitude` come before it. */

const KNOWN = `
us-east 39,-77.5; us-west 37.4,-122; us-central 41.3,-95.9; us-south 29.4,-98.5; ca-central 45.5,-73.6; sa-east -23.5,-46.6;
eu-west 53.3,-6.3; eu-central 50.1,8.7; eu-north 59.3,18.1; eu-south 45.5,9.2; uk-south 51.5,-0.1; me-south 26.1,50.6;
me-central 24.5,54.4; il-central 32.1,34.8; af-south -33.9,18.4; ap-south 19.1,72.9; ap-southeast 1.3,103.8;
ap-northeast 35.7,139.7; ap-east 22.3,114.2; ap-southwest -33.9,151.2; cn-north 39.9,116.4; cn-northwest 37.5,105.2;
us-east-1 38.9,-77.4; us-east-2 40.1,-82.9; us-west-1 37.4,-121.9; us-west-2 45.8,-119.7; us-gov-east-1 40.1,-82.9;
us-gov-west-1 45.8,-119.7; ca-central-1 45.5,-73.6; ca-west-1 51,-114.1; mx-central-1 20.6,-100.4; sa-east-1 -23.5,-46.6;
eu-west-1 53.3,-6.3; eu-west-2 51.5,-0.1; eu-west-3 48.9,2.4; eu-central-1 50.1,8.7; eu-central-2 47.4,8.5;
eu-north-1 59.3,18.1; eu-south-1 45.5,9.2; eu-south-2 41.6,-0.9; il-central-1 32.1,34.8; me-south-1 26.1,50.6;
me-central-1 24.5,54.4; af-south-1 -33.9,18.4; ap-south-1 19.1,72.9; ap-south-2 17.4,78.5; ap-southeast-1 1.3,103.8;
ap-southeast-2 -33.9,151.2; ap-southeast-3 -6.2,106.8; ap-southeast-4 -37.8,145; ap-southeast-5 3.1,101.7;
ap-southeast-7 13.8,100.5; ap-northeast-1 35.7,139.7; ap-northeast-2 37.6,127; ap-northeast-3 34.7,135.5;
ap-east-1 22.3,114.2; cn-north-1 39.9,116.4; cn-northwest-1 37.5,105.2;
us-central1 41.3,-95.9; us-east1 33.2,-80; us-east4 39,-77.5; us-east5 40,-83; us-south1 32.8,-96.8; us-west1 45.6,-121.2;
us-west2 34.1,-118.2; us-west3 40.8,-111.9; us-west4 36.2,-115.1; northamerica-northeast1 45.5,-73.6;
northamerica-northeast2 43.7,-79.4; northamerica-south1 20.6,-100.4; southamerica-east1 -23.5,-46.6;
southamerica-west1 -33.4,-70.7; europe-west1 50.4,3.8; europe-west2 51.5,-0.1; europe-west3 50.1,8.7; europe-west4 53.4,6.8;
europe-west6 47.4,8.5; europe-west8 45.5,9.2; europe-west9 48.9,2.4; europe-west10 52.5,13.4; europe-west12 45.1,7.7;
europe-central2 52.2,21; europe-north1 60.6,27.2; europe-north2 59.3,18.1; europe-southwest1 40.4,-3.7; me-west1 32.1,34.8;
me-central1 25.3,51.5; me-central2 26.4,50.1; africa-south1 -26.2,28; asia-east1 24.1,120.7; asia-east2 22.3,114.2;
asia-northeast1 35.7,139.7; asia-northeast2 34.7,135.5; asia-northeast3 37.6,127; asia-south1 19.1,72.9; asia-south2 28.6,77.2;
asia-southeast1 1.3,103.8; asia-southeast2 -6.2,106.8; australia-southeast1 -33.9,151.2; australia-southeast2 -37.8,145;
eastus 37.4,-79.4; eastus2 36.7,-78.4; centralus 41.6,-93.6; northcentralus 41.9,-87.6; southcentralus 29.4,-98.5;
westcentralus 40.9,-110.2; westus 37.8,-122.4; westus2 47.2,-119.9; westus3 33.4,-112.1; canadacentral 43.7,-79.4;
canadaeast 46.8,-71.2; brazilsouth -23.5,-46.6; mexicocentral 20.6,-100.4; northeurope 53.3,-6.3; westeurope 52.4,4.9;
uksouth 51.5,-0.1; ukwest 51.5,-3.2; francecentral 48.9,2.4; germanywestcentral 50.1,8.7; switzerlandnorth 47.4,8.5;
italynorth 45.5,9.2; norwayeast 59.9,10.8; swedencentral 60.7,17.1; polandcentral 52.2,21; spaincentral 40.4,-3.7;
israelcentral 31.8,35.2; uaenorth 25.3,55.3; qatarcentral 25.3,51.5; southafricanorth -25.7,28.2; centralindia 18.5,73.9;
southindia 13.1,80.3; westindia 19.1,72.9; southeastasia 1.3,103.8; eastasia 22.3,114.2; japaneast 35.7,139.8;
japanwest 34.7,135.5; koreacentral 37.6,127; koreasouth 35.2,129.1; australiaeast -33.9,151.2; australiasoutheast -37.8,145;
indonesiacentral -6.2,106.8; malaysiawest 3.1,101.7; newzealandnorth -36.8,174.8`;

const PLACES = new Map(
  KNOWN.split(";").map((line) => {
    const [name, where] = line.trim().split(" ") as [string, string];
    const [latitude, longitude] = where.split(",").map(Number) as [number, number];
    return [name, { latitude, longitude }];
  }),
);

export interface Place {
  latitude: number;
  longitude: number;
}

/** The place of a region by its name: `eu-west`, `aws-eu-west-1`, `gcp.europe-west4`, `eu-west-1a`. */
export const placeOf = (region: string): Place | undefined => {
  const bare = region.replace(/^(aws|gcp|google|azure|az)[-._]/, "");
  return PLACES.get(bare) ?? PLACES.get(bare.replace(/[-]?[a-f]$/, ""));
};
